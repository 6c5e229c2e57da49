"""The page itself: needs nothing else, is complete without scripts, keeps its size; seen in a browser."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iterreg.dataset import open_dataset
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.report.cutting import PairCutter
from iterreg.report.gallery import Ranking, gallery
from iterreg.report.panels import FINE, Painter
from iterreg.report.results import Results
from iterreg.runs.opening import open_named

Browser = Callable[..., str]

LAPTOP = (1366, 768)
PEOPLE = ("0011", "0012", "0013")
VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """What a browser would make of the page: elements with their attributes; complains of tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_needs_nothing_else_and_is_well_formed(page: Path) -> None:
    text = page.read_text()
    found = Reader(text)
    ids = Counter(attributes["id"] for _, attributes in found.elements if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    for _, attributes in found.elements:
        for name in ("href", "src"):
            if (target := attributes.get(name)) is not None:
                assert target.startswith("data:") or target[1:] in ids, target
    for used in re.findall(r"url\(([^)]*)\)", text):
        assert used.startswith("#"), used
        assert used[1:] in ids
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_pictures_have_words_and_headings_have_order(page: Path) -> None:
    found = Reader(page.read_text())
    images = found.all("img")
    assert len(images) >= 4
    assert all(len(one["alt"]) > 20 for one in images)
    panels = [one for one in found.all("svg") if one.get("role") == "img"]
    assert len(panels) > 30
    assert all(len(one["aria-label"]) > 20 for one in panels)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[:2] == [1, 2]
    assert levels.count(1) == 1
    assert all(there - here <= 1 for here, there in pairwise(levels))
    assert found.all("html")[0]["lang"] == "en"


def test_every_picture_of_every_pair_is_there(page: Path) -> None:
    kinds = Counter(re.findall(r'class="panel (\w+)"', page.read_text()))
    # Three pairs with two methods that register, and the pair without a field shows what there was to do.
    assert kinds["fixed"] == 4 - 1
    for kind in ("flicker", "checker", "difference", "contours"):
        assert kinds[kind] == 3 + 3 * 2, kind
    assert kinds["grid"] == kinds["magnitude"] == 6
    assert kinds["jacobian"] >= 6 + 3, "the rough method folds: its worst folding is shown too"


def test_no_panel_is_shown_under_two_titles(page: Path) -> None:
    drawn = re.findall(r'<figure class="panel [^>]*><h4>([^<]*)</h4>(<svg.*?</svg>)', page.read_text())
    assert len(drawn) > 30
    titles: dict[str, set[str]] = {}
    for title, svg in drawn:
        titles.setdefault(re.sub(r' aria-label="[^"]*"| id="[^"]*"', "", svg), set()).add(title)
    assert [names for names in titles.values() if len(names) > 1] == []


def test_colour_bars_say_what_colours_mean(page: Path) -> None:
    """Every map has a bar with the map's own colours, in words a reader needs no legend for."""
    text = page.read_text()
    for kind, words in (("jacobian", "4 times as large"), ("difference", "60 % of the window")):
        shown = re.findall(rf'<figure class="panel {kind}".*?</figure>', text)
        assert shown
        assert all(words in one and "url(#pair-" in one for one in shown), kind
    ends = re.findall(r"<figcaption>how far .*? up to ([\d.]+) mm in these", text)
    longest = re.findall(r'panel magnitude".*?>([\d.]+) mm</text>', text)
    assert len(ends) == len(longest) == 6
    assert all(float(end) <= float(bar) <= 2 * float(end) for end, bar in zip(ends, longest, strict=True))


def test_every_pair_and_method_stand_in_one_table(page: Path, shared_page: Path) -> None:
    text = page.read_text()
    table = text[text.index("Dice ↑ of every pair") :]
    table = table[: table.index("</table>")]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    assert heads == ["pair", "identity", "deep", "rough"]
    rows = {name: row for row, name in re.findall(r"(<tr><td[^>]*>([^<]*)</td>.*?</tr>)", table)}
    assert list(rows) == ["0011_0012", "0012_0013", "0013_0011", "0011_0014"]
    with (shared_page.parent / "deep-scores" / "pairs.csv").open() as stream:
        dice = {row["pair"]: row["DSC"] for row in csv.DictReader(stream) if row["DSC"]}
    for name, value in dice.items():
        assert f'data-value="{float(value)!r}"' in rows[name]


def test_nine_slices_on_demand(runs: Any, report: Any) -> None:
    few = report(runs.deep, "--pairs", "0011_0012").read_text()
    many = report(runs.deep, "--pairs", "0011_0012", "--slices", "9").read_text()
    for text, count in ((few, 3), (many, 9)):
        magnitude = re.findall(r'<figure class="panel magnitude".*?</figure>', text)
        assert len(magnitude) == 1
        assert magnitude[0].count("<image ") == count
        assert len(set(re.findall(r'href="(data:[^"]*)"', magnitude[0]))) == count, "each shows another slice"
        assert ("of 3 rows the middle one" in text) == (count == 9)


def test_numbers_of_a_pair_carry_the_unit_of_the_tables(page: Path) -> None:
    text = page.read_text()
    pairs = text[text.index('id="pairs"') : text.index('id="methods"')]
    assert "HD95 [voxels]" in text
    bare = re.findall(
        r"(?:HD95|TRE)(?! \[(?:voxels|mm)\])[^<]*", re.sub(r"<svg.*?</svg>", "", pairs, flags=re.S)
    )
    assert bare == []


def test_the_data_set_is_named_by_its_path(page: Path, shared_page: Path) -> None:
    assert f"<code>{shared_page.parent / 'data' / 'HEAD_dataset.json'}</code>" in page.read_text()


def test_the_worst_pair_comes_first(page: Path) -> None:
    found = re.findall(r"worst Dice ([\d.]+)", page.read_text())
    assert len(found) == 3
    assert [float(one) for one in found] == sorted(float(one) for one in found)
    ranks = re.findall(r'<details id="pair-(\d+)"', page.read_text())
    assert ranks == ["1", "2", "3", "4"]


def test_published_rows_are_marked(page: Path) -> None:
    text = page.read_text()
    assert "SITReg (v2) (published)" in text
    assert "published rows are means of" in text.lower() or "Published rows are means of" in text


def test_says_when_the_background_counts_as_a_label(report: Any, runs: Any) -> None:
    """LUMIR's protocols average over label 0 too; what is left without it stands beside."""
    text = report(runs.deep, "--protocol", "lumir25").read_text()
    found = next(runs.deep.parent.rglob("deep*scores/labels.csv"))
    with found.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dice"]]
    assert "0" in {row["label"] for row in rows}
    cases = {row["case"] for row in rows}
    of_cases = [
        np.mean([float(row["dice"]) for row in rows if row["case"] == case and row["label"] != "0"])
        for case in cases
    ]
    assert f"Mean Dice without it: deep {np.mean(of_cases):.4f}." in text


def test_is_silent_where_the_background_does_not_count(report: Any, runs: Any) -> None:
    assert "counts the background" not in report(runs.deep, "--protocol", "learn2reg").read_text()


# -- size ---------------------------------------------------------------------------------------------------


@pytest.fixture
def forty(runs: Any) -> Any:
    """Forty pairs of three people under forty names, as two methods have them."""
    images = runs.dataset.parent / "imagesVal"
    subjects = [f"{2000 + i}" for i in range(41)]
    for number, subject in enumerate(subjects):
        for kind in ("images", "labels"):
            source = (
                runs.dataset.parent
                / f"{kind}Val"
                / f"HEADMRI_{('0011', '0012', '0013')[number % 3]}_0000.nii.gz"
            )
            (images.with_name(f"{kind}Val") / f"HEADMRI_{subject}_0000.nii.gz").symlink_to(source)
    listed = []
    for one, other in pairwise(subjects):
        listed.append(
            {
                "fixed": f"./imagesVal/HEADMRI_{one}_0000.nii.gz",
                "moving": f"./imagesVal/HEADMRI_{other}_0000.nii.gz",
            }
        )
        for folder in (runs.deep, runs.folding):
            (folder / f"disp_{one}_{other}.nii.gz").symlink_to(folder / "disp_0011_0012.nii.gz")
    runs.dataset.write_text(json.dumps({"name": "FORTY", "validation": listed}))
    entries, _ = open_named([str(runs.deep), str(runs.folding)])
    return [Results.of(entry) for entry in entries], open_dataset(runs.dataset)


@pytest.mark.slow
def test_forty_pairs_keep_within_the_budget(forty: Any) -> None:
    results, dataset = forty
    ranking = Ranking("DSC", "Dice", True)
    fine = list(gallery(results, dataset, ranking, budget=10**9))
    size = sum(section.size for section in fine)
    assert len(fine) == 40
    sections = list(gallery(results, dataset, ranking, budget=int(0.8 * size)))
    assert sum(section.size for section in sections) <= 0.8 * size
    assert all(section.before for section in sections), "coarser, and all there"
    tiny = list(gallery(results, dataset, ranking, budget=size // 20))
    assert sum(section.size for section in tiny) <= size // 20
    assert any("left out to keep the report small" in note for one in tiny for note in one.notes)


@pytest.mark.slow
def test_forty_real_pairs_of_three_methods_stay_below_twenty_megabytes(
    data_dir: Path, random_field: Callable[..., np.ndarray]
) -> None:
    """One real pair at the finest quality, with 138 labels and a field that bends everything, times forty."""
    dataset = open_dataset(data_dir / "oasis").select(pairs=["1000_1001"])
    pair = dataset.pairs[0]
    cutter = PairCutter(pair, {})
    assert cutter.grid.shape == (160, 224, 192)
    field = random_field((80, 112, 96), 9.0, 5.0).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    painter = Painter("pair-1", pair.name, cutter.fixed, cutter.windows, comparable=True, quality=FINE)
    before = [painter.fixed(), *painter.before(cutter.before)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disp_1000_1001.nii.gz"
        write_field(path, DisplacementField(field, cutter.grid, cutter.grid))
        after = painter.after(1, "method", cutter.after([path], folds=False))
    images, method = (sum(len(panel.svg) for panel in panels) for panels in (before, after))
    assert 40 * (images + 3 * method) < 18e6, (images, method)


# -- in a browser -------------------------------------------------------------------------------------------

MEASURE = """
<script>
addEventListener("load", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const wide = document.documentElement.clientWidth, out = [];
    for (const one of document.querySelectorAll("body *")) {
      if (one.closest("svg, .scroll table, pre") || one.matches(".skip")) continue;
      const box = one.getBoundingClientRect();
      if (box.width && (box.right > wide + 1 || box.left < -1)) out.push(one.tagName + "." + one.className);
    }
    const drawn = [...document.querySelectorAll(".panel svg")];
    const shown = drawn.filter(one => one.getBoundingClientRect().height > 50);
    const images = [...document.images].filter(i => i.complete && i.naturalWidth > 0);
    const button = document.querySelector("th button");
    const body = document.querySelector("table.sortable").tBodies[0];
    const column = () => [...body.rows].map(row => row.cells[2].innerText);
    const before = column();
    document.querySelectorAll("table.sortable th button")[2].click();
    const after = column();
    const result = document.createElement("pre");
    result.id = "measured";
    result.textContent = JSON.stringify({
      scroll: document.documentElement.scrollWidth, wide, out, panels: shown.length, images: images.length,
      allImages: document.images.length, sortable: !!button, before, after,
    });
    document.body.append(result);
  }));
});
</script>
</body>"""


QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--enable-logging=stderr",
    "--force-device-scale-factor=1",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Run headless Chromium on a page; gives what it printed."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    profile = tmp_path_factory.mktemp("profile")

    def run(page: Path, *options: str, size: tuple[int, int] = LAPTOP) -> str:
        command = [program, *QUIET, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        command += [*options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    return run


def picture(browser: Browser, page: Path, *options: str, size: tuple[int, int] = LAPTOP) -> np.ndarray:
    target = page.with_suffix(".png")
    browser(page, f"--screenshot={target}", "--force-prefers-reduced-motion", *options, size=size)
    return np.asarray(Image.open(io.BytesIO(target.read_bytes())).convert("RGB")).astype(int)


def test_nothing_overflows_and_all_is_shown_on_a_laptop(page: Path, browser: Browser) -> None:
    measured = page.with_name("measured.html")
    measured.write_text(page.read_text().replace("</body>", MEASURE))
    printed = browser(measured, "--dump-dom", "--virtual-time-budget=4000")
    found = json.loads(re.search(r'<pre id="measured">(.*?)</pre>', printed, re.DOTALL)[1])
    assert found["out"] == []
    assert found["scroll"] <= found["wide"] == LAPTOP[0]
    assert found["images"] == found["allImages"] > 0
    assert found["panels"] == page.read_text().count('class="panel ')
    assert found["sortable"]
    numbers = [float(one.split()[0]) for one in found["after"] if one != "–"]
    assert numbers == sorted(numbers)
    assert sorted(found["before"]) == sorted(found["after"])
    assert "CONSOLE" not in printed, printed[-2000:]


def test_no_request_leaves_the_page(page: Path, browser: Browser, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    printed = browser(page, f"--screenshot={tmp_path / 'x.png'}", f"--log-net-log={log}")
    assert "CONSOLE" not in printed
    asked = set(re.findall(r'"url":"([^"]+)"', log.read_text()))
    own = {url for url in asked if not url.startswith(("file:", "data:", "chrome"))}
    # The browser's own services may ask for their news; what the page asks for has a file as its initiator.
    assert not re.search(r'"initiator":"file:[^"]*"[^{}]*"url":"http', log.read_text())
    assert not {url for url in own if "google" not in url and "gstatic" not in url}, own


def without_scripts(page: Path) -> Path:
    """The same page, where the browser runs no script."""
    barred = page.with_name("barred.html")
    text = page.read_text()
    assert text.count("script-src 'unsafe-inline'") == 1
    barred.write_text(text.replace("script-src 'unsafe-inline'", "script-src 'none'"))
    return barred


def test_scripts_off_shows_the_same(page: Path, browser: Browser) -> None:
    size = (1366, 2400)
    plain = picture(browser, without_scripts(page), size=size)
    scripted = picture(browser, page, size=size)
    assert plain.shape == scripted.shape
    differing = (np.abs(plain - scripted).max(axis=-1) > 40).mean()
    assert differing < 0.03, "only the sorting arrows may differ"
    assert (plain < 250).any(axis=-1).mean() > 0.05, "an empty page would be white"


def test_flicker_moves_without_scripts_unless_motion_is_reduced(page: Path, browser: Browser) -> None:
    text = page.read_text()
    start = text.index('<figure class="panel flicker"')
    end = text.index("</figure>", start)
    first = text.index('<figure class="panel fixed"')
    moving = text.index('<figure class="panel moved"')
    shown = [text[first : text.index("</figure>", first)], text[moving : text.index("</figure>", moving)]]
    style = re.search(r"<style>.*?</style>", text, re.DOTALL)
    assert style
    alone, target = page.with_name("flicker.html"), page.with_name("flicker.png")
    body = "".join(f"{one}</figure>" for one in (text[start:end], *shown))

    def seen(seconds: float, *options: str) -> np.ndarray:
        held = f"<style>svg .flick {{ animation-delay: -{seconds}s; animation-play-state: paused; }}</style>"
        alone.write_text(f"<!DOCTYPE html><meta charset=utf-8>{style[0]}{held}<main>{body}</main>")
        browser(alone, f"--screenshot={target}", *options, size=(700, 320))
        return np.asarray(Image.open(target).convert("L")).astype(int)

    assert np.abs(seen(0.2) - seen(1.2)).max() > 60
    still = "--force-prefers-reduced-motion"
    assert np.abs(seen(0.2, still) - seen(1.2, still)).max() <= 2
