"""The Horizon presets as contracts 8 and 9 state them, under the tutorial's names too."""

import pytest

from qatspec.api import registry


@pytest.mark.parametrize(
    "name,alias",
    [
        ("horizon_calibration", "HorizonCalibrationQConfig"),
        ("horizon_calibrated", "HorizonCalibratedQConfig"),
        ("horizon_qat", "HorizonQConfig"),
    ],
)
def test_the_tutorials_names_are_aliases(name, alias):
    assert registry().qconfig(alias) is registry().qconfig(name)


def test_the_tutorials_prepare_dict_is_an_alias():
    preset = registry().prepare_config("HorizonPrepareCustomConfigDict")
    assert preset is registry().prepare_config("horizon")
    assert preset.config.march_preset
    assert preset.config.shared_conv == "tied"


def test_calibration_observes_by_percentile():
    activation = registry().qconfig("horizon_calibration").config.activation
    assert (activation.observer, activation.percentile, activation.bins) == (
        "percentile", 99.99, 2048,
    )  # fmt: skip


def test_calibrated_activations_are_fixed_and_need_a_calibration():
    preset = registry().qconfig("horizon_calibrated")
    assert preset.config.activation.fake_quant == "fixed"
    assert preset.needs_calibration
    assert not registry().qconfig("horizon_qat").needs_calibration


def test_qat_activations_move_by_a_hundredth():
    activation = registry().qconfig("horizon_qat").config.activation
    assert (activation.fake_quant, activation.averaging_constant) == ("moving", 0.01)


@pytest.mark.parametrize("name", ["horizon_calibration", "horizon_calibrated", "horizon_qat"])
def test_weights_follow_per_output_channel(name):
    weight = registry().qconfig(name).config.weight
    assert (weight.dtype, weight.ch_axis, weight.averaging_constant) == ("qint8", 0, 1.0)
