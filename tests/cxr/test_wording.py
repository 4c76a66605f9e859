from cxr.wording import counted


def test_the_number_decides_between_singular_and_plural() -> None:
    assert [counted(number, "box") for number in (0, 1, 1234)] == ["no boxes", "1 box", "1,234 boxes"]
    assert counted(2, "image of the split", "images of the split") == "2 images of the split"
