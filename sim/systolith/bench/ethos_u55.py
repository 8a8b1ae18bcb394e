"""Figures of another accelerator for comparison: NPU cycles of Ethos-U55 by Vela 5.2's estimate.

Vela counts an 8 byte per cycle port. Ethos-U55-256 and -64 have as many multipliers as `edge-16x16`
and `edge-8x8`.
"""

from collections.abc import Mapping

SOURCE = "Vela 5.2, NPU cycles, 8 bytes per cycle"

CYCLES: Mapping[int, Mapping[str, int]] = {
    256: {
        "mlperf_resnet8": 106_554,
        "mlperf_kws_dscnn": 56_119,
        "mlperf_vww_mbv1": 128_345,
        "mlperf_ad_fcae": 40_929,
        "coral_mbv2_100_224_ptq": 3_238_074,
    },
    64: {
        "mlperf_resnet8": 356_300,
        "mlperf_kws_dscnn": 137_700,
        "mlperf_vww_mbv1": 355_800,
        "mlperf_ad_fcae": 41_100,
        "coral_mbv2_100_224_ptq": 11_443_000,
    },
}
"""Cycles by number of multipliers and network."""


def cycles_of(network: str, multipliers: int) -> int | None:
    """Return the cycles of the Ethos-U55 with as many multipliers, None if there is no figure."""
    return CYCLES.get(multipliers, {}).get(network)
