"""Methods are found by name; those of other packages are held to the protocol."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from iterreg.batch.arms import parse_arm
from iterreg.errors import EngineError, InputError
from iterreg.methods import registry
from iterreg.methods.base import Method, Task, identity, refusal
from iterreg.methods.foreign import said
from iterreg.volume import Grid, Volume

PLUGIN = """
from iterreg.errors import EngineError, InputError
from iterreg.methods.base import Cost, Parameters

class Own:
    name = "own"
    distributions = ("numpy",)
    def parameters(self, source):
        return Parameters("", {{}})
    def cost(self, parameters, fixed, moving):
        return Cost(1000, 1.0)
    def environment(self, threads):
        return {{}}
    def warm(self):
        pass
    def register(self, task, parameters):
        raise NotImplementedError
{change}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs a package with the method ``own``, changed by the lines given."""

    def install(change: str) -> None:
        registry.load.cache_clear()
        sys.modules.pop("own_method", None)
        (tmp_path / "own_method.py").write_text(PLUGIN.format(change=change))
        info = tmp_path / "own_method-1.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-method\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[iterreg.methods]\nown = own_method:Own\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    registry.load.cache_clear()
    sys.modules.pop("own_method", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sny", "did you mean 'syn'"),
        ("SyN", "did you mean 'syn'"),
        ("elastics", "did you mean 'elastix'"),
        ("bspline-fast", "did you mean 'elastix:bspline-fast'"),
        ("par.txt", "METHOD:par.txt, with .*elastix"),
        ("nothing-like-it", "installed are elastix"),
        ("", "installed are elastix"),
        ("a\0b", "installed are"),
    ],
)
def test_an_unknown_method_is_told_what_was_meant(name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"there is no method .*{said}"):
        registry.load(name)


def test_a_sound_method_of_others_is_used(plugin: Callable[[str], None]) -> None:
    plugin("    saves_momentum = True")
    method = registry.load("own")
    assert isinstance(method, Method)
    assert method.distributions == ("numpy",)
    assert method.cost(method.parameters(None), Grid((4, 4, 4)), Grid((4, 4, 4))).memory == 1000
    assert parse_arm("own").software["numpy"] == np.__version__
    from iterreg.methods.base import saves_momentum

    assert saves_momentum(method)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "    raise RuntimeError('one\\ntwo')",
            "cannot be loaded .RuntimeError: one two.; mend or uninstall",
        ),
        ("import no_such_module", "cannot be loaded .ModuleNotFoundError: No module named 'no_such_module'"),
        ("Own = 3", "cannot be loaded"),
        ("del Own.cost", "does not follow"),
        ("    distributions = ('no-such-package',)", "needs the package 'no-such-package'"),
        ("    distributions = 3", "distributions are 3, not a tuple"),
        ("    def environment(self, threads): return None", "environment.. gives None"),
        ("    def environment(self, threads): return {'A': threads}", "sets 'A' to 1, which no process"),
        ("    def environment(self, threads): return {'A=': 'b'}", "sets 'A=' to 'b'"),
        ("    def environment(self, threads): return {'A': 'b\\0'}", "sets 'A'"),
        ("    def environment(self, threads): return {'A': chr(0xd800)}", "sets 'A'"),
        ("    def environment(self, threads): 1 / 0", "environment.. fails .ZeroDivisionError: division"),
        ("    def parameters(self, source): return {}", "parameters.. gives {}, not Parameters"),
        ("    def parameters(self, source): return Parameters('', {'a': {1}})", "as JSON"),
        ("    def parameters(self, source): raise KeyError('x')", "parameters.. fails .KeyError: 'x'"),
        ("    def parameters(self, source): raise InputError('a\\nb')", "^a b$"),
    ],
)
def test_a_broken_method_of_others_is_one_sentence(
    change: str, said: str, plugin: Callable[[str], None]
) -> None:
    plugin(change)
    with pytest.raises(InputError, match=said) as caught:
        parse_arm("own")
    assert "\n" not in str(caught.value)


def test_a_method_of_others_may_say_what_shapes_its_result(plugin: Callable[[str], None]) -> None:
    plugin("")
    without = parse_arm("own").software
    assert set(without) == {"code of images and fields", "numpy"}
    plugin("    def identity(self, parameters): return {'weights': 'v2', 'blocks': 3}")
    assert parse_arm("own").software == {**without, "weights": "v2", "blocks": "3"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("None", "identity.. gives None, not a mapping"),
        ("{1: 'a'}", "identity.. says 'a' of 1, not a text"),
        ("{'': 'a'}", "identity.. says 'a' of ''"),
        ("{'a': None}", "identity.. says None of 'a'"),
        ("{'a': True}", "identity.. says True of 'a'"),
        ("{'a': float('nan')}", "identity.. says nan of 'a'"),
        ("{'a': chr(0xd800)}", "identity.. says "),
        ("{'a': ['b']}", "identity.. says ..b.. of 'a'"),
        ("1 / 0", "identity.. fails .ZeroDivisionError"),
    ],
)
def test_an_identity_that_is_none_is_refused(answer: str, said: str, plugin: Callable[[str], None]) -> None:
    plugin(f"    def identity(self, parameters): return {answer}")
    arm = parse_arm("own")
    with pytest.raises(InputError, match=rf"'own' \(own_method:Own\) cannot be used: {said}"):
        _ = arm.software


def test_a_method_of_others_may_refuse_grids(plugin: Callable[[str], None]) -> None:
    grid = Grid((4, 4, 4))
    for change, sentence in (
        ("", ""),
        ("    def refusal(self, *_): return None", ""),
        (
            "    def refusal(self, parameters, fixed, moving): return f'has\\n{fixed.shape[0]} slices'",
            "has 4 slices",
        ),
    ):
        plugin(change)
        method = registry.load("own")
        assert refusal(method, method.parameters(None), grid, grid) == sentence
    plugin("    def refusal(self, *_): return 3")
    method = registry.load("own")
    with pytest.raises(InputError, match=r"cannot be used: refusal.. gives 3, not a sentence"):
        refusal(method, method.parameters(None), grid, grid)


@pytest.mark.parametrize("name", ["identity", "syn", "elastix", "lddmm"])
def test_what_shapes_a_result_is_known_without_the_engine(name: str) -> None:
    """Every method of iterreg names its own code, and it is the same each time it is asked."""
    method = registry.load(name)
    parameters = method.parameters(None)
    said = identity(method, parameters)
    assert list(said) == [f"code of {name}"]
    assert re.fullmatch("[0-9a-f]{16}", str(said[f"code of {name}"]))
    assert identity(method, parameters) == said
    probe = (
        "import sys\n"
        "from iterreg.batch.arms import parse_arm\n"
        f"parse_arm({name!r}).software\n"
        "print(*sorted({'ants', 'itk', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "answer",
    [
        "None",
        "3",
        "Cost(float('nan'), 1)",
        "Cost(-1, 1)",
        "Cost('2 GiB', 1)",
        "Cost(1, float('inf'))",
        "1 / 0",
    ],
)
def test_a_cost_that_is_none_is_refused(answer: str, plugin: Callable[[str], None]) -> None:
    plugin(f"    def cost(self, parameters, fixed, moving): return {answer}")
    arm = parse_arm("own")
    with pytest.raises(InputError, match=r"'own' \(own_method:Own\) cannot be used: .*cost\(\)"):
        arm.method.cost(arm.parameters, Grid((4, 4, 4)), Grid((4, 4, 4)))


def test_what_it_raises_becomes_one_printable_line(plugin: Callable[[str], None], tmp_path: Path) -> None:
    plugin(
        "    def register(self, task, parameters): raise EngineError('\\x1b[31mred\\n' + chr(0xd800) * 9000)"
    )
    method = registry.load("own")
    image = Volume(np.zeros((3, 3, 3), np.float32), Grid((3, 3, 3)))
    with pytest.raises(EngineError) as caught:
        method.register(Task(image, image, tmp_path), method.parameters(None))
    text = str(caught.value)
    assert text.startswith(r"\x1b[31mred \ud800")
    assert text.isprintable()
    assert len(text) < 5000


def test_an_error_that_cannot_be_told_is_named() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert said(MuteError()) == "MuteError"
    assert said(ValueError("  ")) == "ValueError"


def test_one_broken_package_does_not_hide_the_others(plugin: Callable[[str], None], tmp_path: Path) -> None:
    plugin("import no_such_module")
    done = subprocess.run(
        [sys.executable, "-m", "iterreg", "methods"],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "own  the method 'own' cannot be loaded" in done.stdout
    assert "syn:cheap" in done.stdout
