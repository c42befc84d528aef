"""Numbers as people read them: tokens, FLOPs, bytes and durations."""

_STEPS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def scaled(value: float, giga: str = "G", space: str = "") -> str:
    """Three significant digits and a prefix: 1.2e6 -> '1.2M'."""
    for step, prefix in _STEPS:
        if abs(value) >= step:
            return f"{value / step:.3g}{space}{giga if prefix == 'G' else prefix}"
    return f"{value:.3g}{space}"


def tokens_text(value: float) -> str:
    """'1.2M', '5B'."""
    return scaled(value, giga="B")


def flops_text(value: float) -> str:
    """'3.1 TFLOP'; above 1000 PFLOP in powers of ten."""
    return f"{value:.3g} FLOP" if value >= 1e18 else f"{scaled(value, space=' ')}FLOP"


def seconds_text(value: float) -> str:
    """'42 s', '12 min 5 s', '3 h 20 min'."""
    if value < 60:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def bytes_text(value: float) -> str:
    """'12.3 MB'."""
    return f"{scaled(value, space=' ')}B"
