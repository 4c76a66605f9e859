"""What the machine computes in."""


def computes_in_bf16(device_type: str) -> bool:
    """True where a processor ("cpu") or GPU ("cuda") has bfloat16 arithmetic, and not a slow imitation of it."""
    import torch  # eval uses cxr without torch

    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
