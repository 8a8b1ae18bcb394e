"""Cycles that the design was made to reach, by configuration and network."""

from collections.abc import Mapping

CYCLES: Mapping[str, Mapping[str, int]] = {
    "edge-16x16": {
        "mlperf_resnet8": 54_000,
        "mlperf_kws_dscnn": 16_500,
        "mlperf_vww_mbv1": 47_500,
        "mlperf_ad_fcae": 18_800,
        "coral_mbv2_100_224_ptq": 1_700_000,
    },
    "edge-16x16-axi64": {
        "mlperf_resnet8": 55_000,
        "mlperf_kws_dscnn": 17_000,
        "mlperf_vww_mbv1": 49_500,
        "mlperf_ad_fcae": 36_500,
        "coral_mbv2_100_224_ptq": 1_800_000,
    },
    "edge-8x8": {
        "mlperf_resnet8": 212_000,
        "mlperf_kws_dscnn": 56_000,
        "mlperf_vww_mbv1": 148_000,
        "mlperf_ad_fcae": 37_000,
        "coral_mbv2_100_224_ptq": 5_700_000,
    },
}
"""The configurations named here are those whose figures are reported in full."""


def cycles_of(config: str, network: str) -> int | None:
    """Return the target of a network, None if there is none."""
    return CYCLES.get(config, {}).get(network)
