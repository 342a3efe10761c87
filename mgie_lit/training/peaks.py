"""What devices can compute at most."""

from __future__ import annotations

# Dense matrix products per second (no sparsity) as the makers' data sheets give them, in 1e12 operations: in 16-bit
# (bf16, or fp16 where the device has no bf16), and in float32 without TF32. The first name that fits is taken.
_PEAKS = (
    ("H200", 989.0, 67.0),
    ("H100 PCIe", 756.0, 51.0),
    ("H100", 989.0, 67.0),
    ("A100", 312.0, 19.5),
    ("L40S", 362.0, 91.6),
    ("L4", 121.0, 30.3),
    ("RTX A6000", 155.0, 38.7),
    ("RTX 4090", 165.0, 82.6),
    ("RTX 3090", 71.0, 35.6),
    ("V100", 125.0, 15.7),
    ("T4", 65.0, 8.1),
)
TERA = 10**12


def peak_flops(name: str) -> tuple[float | None, float | None]:
    """Peak operations per second in 16-bit and in float32 of a device by its name.

    >>> peak_flops("NVIDIA A100-SXM4-80GB")
    (312000000000000.0, 19500000000000.0)
    """
    words = name.replace("-", " ").split()
    for known, half, single in _PEAKS:
        if all(word in words for word in known.split()):
            return half * TERA, single * TERA
    return None, None
