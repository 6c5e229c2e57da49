"""The table of elastix's keys: against elastix itself, and against files that went wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.methods import presets
from iterreg.methods.elastix_keys import Key, effective_count, idle, notes, vocabulary
from iterreg.methods.elastix_parameters import parse_parameter_map, read_parameter_map

STAGE = """(Registration "MultiResolutionRegistration")
(Transform "BSplineTransform")
(Metric "AdvancedNormalizedCorrelation")
(Optimizer "AdaptiveStochasticGradientDescent")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(Interpolator "LinearInterpolator")
(ResampleInterpolator "FinalLinearInterpolator")
(Resampler "DefaultResampler")
(ImageSampler "RandomCoordinate")
(NumberOfResolutions 3)
(FinalGridSpacingInPhysicalUnits 20)
(MaximumNumberOfIterations 15)
(NumberOfSpatialSamples 500)
"""


def told(*lines: str, instead_of: str = "") -> tuple[str, ...]:
    """The notes on the stage with more lines, one of its keys left out for them."""
    kept = [line for line in STAGE.splitlines() if not line.startswith(f"({instead_of} ")]
    return notes(parse_parameter_map("\n".join([*kept, *lines]), "my.txt"), "my.txt")


def test_a_plain_stage_has_nothing_to_tell() -> None:
    assert told() == ()


@pytest.mark.parametrize("name", presets.names("elastix"))
def test_presets_are_followed_to_the_letter(name: str) -> None:
    stage = read_parameter_map(presets.find("elastix", name))
    assert notes(stage, name, besides=("IterregForegroundMask",)) == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(NumberOfSpatialSample 4000)", r"\(NumberOfSpatialSample 4000\).*mean NumberOfSpatialSamples\?"),
        ("(MaximumStepLenght 0.3)", r"\(MaximumStepLenght 0.3\).*mean MaximumStepLength\?"),
        ("(maximumsteplength 0.3)", r"mean MaximumStepLength\?"),
        ("(Metric0Wieght 1)", r"mean Metric0Weight\?"),
        ("(Metric1NumberOfHistogramBin 32)", r"mean Metric1NumberOfHistogramBins\?"),
        ("(Optimiser Powell)", r"mean Optimizer\?"),
        ("(Metric0FinalGridSpacingInVoxels 8)", "knows no"),  # a transform's key with a metric's label
        ("(SomethingElse 1 2)", r"knows no \(SomethingElse 1 2\).*; take the line away"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(line: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^my.txt: .*{said}"):
        told(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('(Metric "AdvancedNormalisedCorrelation")', 'did you mean "AdvancedNormalizedCorrelation"'),
        ('(Optimizer "ASGD")', "no such Optimizer; there are AdaptiveStochastic.*Powell"),
        ('(Transform "BsplineTransform")', 'did you mean "BSplineTransform"'),
        ('(Metric "KNNGraphAlphaMutualInformation")', "built without it"),
        ('(ImageSampler "RandomCoordinate" "Radnom")', 'ImageSampler "Radnom".*mean "Random"'),
    ],
)
def test_a_component_that_does_not_exist_is_refused(line: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^my.txt: .*{said}"):
        told(line, instead_of=line[1:].split()[0])


def test_a_needed_component_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"my.txt: says no \(Metric …\).*AdvancedNormalizedCorrelation"):
        told(instead_of="Metric")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(ImagePyramidSchedule 4 4 4 2 2 2)", "6 values for 3 resolutions and 3 axes; write 9.*defaults"),
        ("(ImagePyramidSchedule 8 8 8 4 4 4 2 2 2 1 1 1)", "12 values for 3 resolutions.*the first 9"),
        ("(FixedImagePyramidSchedule 4 2 1)", "3 values for 3 resolutions and 3 axes; write 9"),
        ("(MaximumNumberOfIterations 30 20)", "2 values for 3 resolutions; write 1 or 3.*the first one"),
        ("(FinalGridSpacingInPhysicalUnits 20 10)", "2 values for 3 axes; write 1 or 3"),
        ("(GridSpacingSchedule 4 2)", "2 values for 3 resolutions and 3 axes; write 3 or 9"),
        ("(MovingImageDerivativeScales 1 1)", "2 values for 3 axes; write 3"),
        ('(ImagePyramidSchedule "4 4 4 2 2 2 1 1 1")', "must be a number; take the quotes away"),
        ("(FinalGridSpacingInPhysicalUnits 4,5)", r"\(FinalGridSpacingInPhysicalUnits 4,5\).*it is 4\.5"),
        ("(MaximumNumberOfIterations 15.5)", "'15.5' must be a whole number"),
        ("(MaximumNumberOfIterations -5)", "'-5' must be a whole number"),
        ("(MaximumNumberOfIterations 1e3)", "'1e3' must be a whole number"),
        ("(MaximumNumberOfIterations many)", "'many' must be a whole number"),
        ("(MaximumStepLength 1mm)", "'1mm' must be a number"),
        ("(UseDirectionCosines True)", '\'True\' must be "true" or "false"; write "true"'),
        ("(UseDirectionCosines 1)", '\'1\' must be "true" or "false"'),
        ('(HowToCombineTransforms "compose")', 'must be "Add" or "Compose"; did you mean "Compose"'),
        ('(ASGDParameterEstimationMethod "DisplacmentDistribution")', 'mean "DisplacementDistribution"'),
        ("(FixedImageDimension 2)", "iterreg registers volumes of 3 dimensions"),
        ("(FinalGridSpacingInVoxels 16)", r"\(FinalGridSpacingInVoxels 16\) and .*Units 20\).*keep one"),
        ('(InitialTransformParameterFileName "t0.txt")', "t0.txt.*from the identity.*in sequence"),
        ('(InitialTransformParametersFileName "t0.txt")', "t0.txt.*from the identity.*in sequence"),
    ],
)
def test_what_elastix_would_not_follow_is_refused(line: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^my.txt: .*{said}"):
        told(line, instead_of=line[1:].split()[0])


def test_two_metrics_need_the_registration_for_several() -> None:
    with pytest.raises(InputError, match=r"takes one Metric, the file names 2.*MultiMetricMultiResolution"):
        told('(Metric "AdvancedMeanSquares" "TransformBendingEnergyPenalty")', instead_of="Metric")


@pytest.mark.parametrize(
    "line",
    [
        "(MaximumNumberOfIterations 15.0)",
        "(MaximumNumberOfIterations 15 15)",  # what elastix takes for the third is what the file says
        "(MaximumNumberOfIterations 30 20 10)",
        "(FixedImageDimension 3.000000)",
        "(MaximumStepLength 1e-3)",
        "(ImagePyramidSchedule 4 4 2 2 2 1 1 1 1)",
        "(GridSpacingSchedule 4 2 1)",
        "(GridSpacingSchedule 4 4 4 2 2 2 1 1 1)",
        "(FinalGridSpacingInPhysicalUnits 20 20 10)",
        '(InitialTransformParametersFileName "NoInitialTransform")',
        '(ErodeMask "false")',
        '(ShowExactMetricValue "false")',
        '(WriteResultImage "true")',
        '(UseDirectionCosines "false")',
        "(Optimizer0MaximumNumberOfIterations 15)",
        "(ImageSampler0NumberOfSpatialSamples 500)",
        "(FixedImagePyramid0Schedule 4 4 4 2 2 2 1 1 1)",
    ],
)
def test_what_elastix_follows_passes_in_silence(line: str) -> None:
    assert told(line, instead_of=line[1:].split()[0]) == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(NumberOfHistogramBins 32)", "without effect: NumberOfHistogramBins .read by AdvancedMattes"),
        ("(Metric0Weight 1)", "Metric0Weight .read by MultiMetricMultiResolutionRegistration"),
        ('(Metric1ShowExactMetricValue "true")', "there is no Metric 1"),
        ('(UseAllPixels "true")', "UseAllPixels .elastix reads ImageSampler"),
        ("(Spacing 1 1 1)", "Spacing .the grid of a result"),
        ("(MaximumNumberOfIterations 40 30 20 10)", "3 resolutions, the values after those are not read"),
        ("(NumberOfSpatialSamples 5)", "too few to go by"),
    ],
)
def test_a_line_without_effect_is_noted(line: str, said: str) -> None:
    (note,) = told(line, instead_of=line[1:].split()[0])
    assert re.match(f"my.txt: .*{said}", note)


def test_the_table_is_sound() -> None:
    known = vocabulary()
    names = [*known.components, *chain(*known.components.values()), *chain(*known.not_built.values())]
    assert len(set(names)) == len(names)
    for name, key in known.keys.items():
        assert set(key.readers) <= {"elastix", *names}, name
        assert key.counts == ("any",) or set(key.counts) <= {"1", "3", "N", "3N"}, name
    assert known.unlabelled <= set(known.keys)
    assert not known.ignored.keys() & known.keys.keys()


def test_whole_numbers_as_elastix_reads_them() -> None:
    assert effective_count("15", 3) == effective_count("15.000", 3) == 15
    assert effective_count("1e3", 3) == effective_count("many", 3) == 3


# -- elastix itself -------------------------------------------------------------------------------

_TRIED = {
    "Metric": [
        "AdvancedNormalizedCorrelation", "AdvancedMeanSquares", "AdvancedMattesMutualInformation",
        "NormalizedMutualInformation", "AdvancedKappaStatistic",
    ],
    "Optimizer": [
        "AdaptiveStochasticGradientDescent", "StandardGradientDescent", "RegularStepGradientDescent",
        "ConjugateGradient", "QuasiNewtonLBFGS", "Powell", "Simplex", "CMAEvolutionStrategy",
    ],
    "ImageSampler": ["Random", "RandomCoordinate", "Grid", "Full"],
    "Interpolator": ["LinearInterpolator", "BSplineInterpolator"],
    "FixedImagePyramid": ["FixedGenericImagePyramid", "FixedRecursiveImagePyramid"],
    "Transform": ["BSplineTransform", "RecursiveBSplineTransform", "AffineTransform", "EulerTransform"],
    "Registration": ["MultiMetricMultiResolutionRegistration"],
}  # fmt: skip
_CONDITIONAL = {
    # Read only where another setting says so.
    "SP_a", "SP_alpha", "SP_c", "SP_gamma", "SigmoidMax", "SigmoidMin", "SigmoidScale", "SampleRegionSize",
    "ErodeMask", "ErodeFixedMask", "ErodeMovingMask", "CenterOfGravityUsesLowerThreshold",
    "LowerThresholdForCenterGravity", "NumberOfSamplesForCenteredTransformInitialization", "Scales",
    "InitialSimplexDelta", "Metric#RelativeWeight", "ExactMetricSampleGridSpacing", "ResultImageFormat",
    "ExactMetricEveryXIterations", "MovingImagePyramidSchedule", "UseForegroundValue", "ForegroundValue",
    # Read where a result is written, which iterreg does not ask for; or by the command line alone.
    "CompressResultImage", "DefaultPixelValue", "ResultImageName", "ResultImagePixelType",
    "ReleaseMemoryBeforeResampling", "OpenCLDeviceID", "OpenCLDeviceType", "MovingImageDimension",
    "FixedImageDimension", "OutputTransformParameterFileFormat", "ITKTransformOutputFileNameExtension",
    "WriteITKCompositeTransform", "ShowProgressPercentage", "InitialTransformParametersFileName",
    "HowToCombineTransforms", "FinalGridSpacingInVoxels", "InitialTransformParameterFileName",
    "ErodeFixedMask#", "ErodeMovingMask#", "WriteResultImageAfterEachIteration",
    "WriteTransformParametersEachIteration",
}  # fmt: skip
_VALUES = {
    "NumberOfResolutions": "1", "RequiredRatioOfValidSamples": "0.01", "MaximumNumberOfIterations": "2",
    "MaximumNumberOfLineSearchIterations": "2", "NumberOfSpatialSamples": "300", "SampleGridSpacing": "2",
    "BSplineTransformSplineOrder": "3", "NumberOfHistogramBins": "16", "NumberOfFixedHistogramBins": "16",
    "NumberOfMovingHistogramBins": "16", "FixedKernelBSplineOrder": "3", "MovingKernelBSplineOrder": "3",
    "FinalGridSpacingInPhysicalUnits": "8", "ASGDParameterEstimationMethod": "DisplacementDistribution",
    "AutomaticTransformInitialization": "true",
    "WriteFinalTransformParameters": "false", "WriteResultImage": "false", "PopulationSize": "0",
    "NumberOfParents": "0", "FixedInternalImagePixelType": "float", "MovingInternalImagePixelType": "float",
    "FixedLimitRangeRatio": "0.01", "MovingLimitRangeRatio": "0.01", "Metric#Use": "true",
    "UseFastAndLowMemoryVersion": "true", "UpdateBDPeriod": "0", "LBFGSUpdateAccuracy": "3",
    "RelaxationFactor": "0.5",
    "NumberOfJacobianMeasurements": "100", "AutomaticParameterEstimation": "true",
}  # fmt: skip


def _value(name: str, key: Key) -> list[str]:
    value = _VALUES.get(name) or {"whole": "1", "integer": "1", "number": "1", "switch": "false"}.get(
        key.value
    )
    lengths = key.lengths(1)
    return [value or key.value.split("|")[0]] * (lengths[0] if lengths else 1)


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, list[str]]], set[str]]]:
    """The keys of a stage that elastix says it has not looked at."""
    before = dict(os.environ)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    itk = pytest.importorskip("itk")
    image_type = itk.Image[itk.F, 3]
    x, y, z = np.indices((20, 22, 24), dtype=np.float32)
    array = 50 + 40 * np.sin(x / 3) * np.cos(y / 4) + 30 * np.sin(z / 3 + 1)
    image = itk.GetImageFromArray(np.ascontiguousarray(array.astype(np.float32)))

    def ask(stage: dict[str, list[str]]) -> set[str]:
        folder: Path = tmp_path_factory.mktemp("elastix")
        method = itk.ElastixRegistrationMethod[image_type, image_type].New()
        method.SetFixedImage(image)
        method.SetMovingImage(image)
        settings = itk.ParameterObject.New()
        settings.AddParameterMap(stage)
        method.SetParameterObject(settings)
        method.SetOutputDirectory(str(folder))
        method.SetLogFileName("elastix.log")
        method.LogToFileOn()
        method.Update()
        log = (folder / "elastix.log").read_text()
        return set(re.findall(r"Unused parameter: (\S+)", log))

    yield ask
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in _TRIED.items() for name in names])
def test_elastix_reads_what_the_table_says(
    kind: str, name: str, unused: Callable[[dict[str, list[str]]], set[str]]
) -> None:
    """With every key of the table in the file, those elastix passes over are those the table says it does."""
    known = vocabulary()
    stage = {key: list(values) for key, values in parse_parameter_map(STAGE, "stage").items()}
    stage["Optimizer"] = ["StandardGradientDescent"]
    stage["Transform"] = ["TranslationTransform"]
    stage[kind] = [name]
    if name == "Grid":
        stage["SampleGridSpacing"] = ["2"] * 3
    for key, what in known.keys.items():
        if key not in known.components and key not in _CONDITIONAL:
            stage[key.replace("#", "0")] = _value(key, what)
    stage["ImagePyramidSchedule"] = ["1", "1", "1"]
    told = set(idle(stage))
    # Keys of one component of several are not counted by elastix.
    several = {key for key in stage if re.match(r"(Metric|FixedImagePyramid|MovingImagePyramid)0", key)}
    assert unused(stage) - several == told - several
