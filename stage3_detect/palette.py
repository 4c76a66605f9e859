"""Colours of findings in pictures."""

from collections.abc import Sequence

# Blue, orange and green that people with colour-blindness can tell apart (Okabe & Ito, Color Universal Design, 2008;
# green lightened), completed by their yellow and pink; four more serve long lists of findings. A finding keeps its
# colour over all pictures, and its name is at each box for readers who are colour blind.
COLOURS: tuple[tuple[int, int, int], ...] = (
    *((86, 180, 233), (230, 159, 0), (0, 190, 140), (240, 228, 66), (230, 159, 200), (255, 255, 255)),
    *((255, 80, 80), (165, 120, 255), (170, 240, 60), (200, 160, 110)),
)
"""RGB, light enough for dark radiographs."""


def colour_of(finding: str, findings: Sequence[str]) -> tuple[int, int, int]:
    """RGB of a finding. findings: all of the model; their order gives the colours."""
    return COLOURS[findings.index(finding) % len(COLOURS)]
