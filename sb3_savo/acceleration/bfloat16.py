"""Whether a device multiplies bfloat16 numbers in hardware."""

import platform

import torch as th


def has_bfloat16_hardware(device: th.device) -> bool:
    """
    torch multiplies bfloat16 matrices on every processor, but where neither the hardware nor oneDNN helps, it takes tens of
    times as long as in float32.

    :param device: A processor or a GPU
    :return: Whether bfloat16 products are faster there than float32 products
    """
    if device.type != "cpu":
        query = getattr(th.get_device_module(device.type), "is_bf16_supported", None)
        return query is not None and query(including_emulation=False)
    if not (th.backends.mkldnn.is_available() and th.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    # On x86 oneDNN also says yes where it emulates bfloat16 by AVX512
    emulates = platform.machine().lower() in ("x86_64", "amd64")
    return not emulates or th.cpu._is_avx512_bf16_supported() or th.cpu._is_amx_tile_supported()
