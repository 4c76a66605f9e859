"""Makes docs/overview.jpg, the picture of the README, from the pictures of the demo's report: `make picture`."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SOURCE = Path("runs/demo/pictures/chain")
TARGET = Path(__file__).with_name("overview.jpg")
COLUMNS = {
    "radiograph": "radiograph",
    "map": "heat map (CAM)",
    "cam": "boxes from the map and\nusual places, score",
    "detector": "YOLO detector,\nprobability",
    "truth": "ground truth",
}
EXAMPLES = ("1", "3")
"""Lung Opacity and Consolidation, two of the five examples of the report, which are of median quality."""
TILE_PX, GAP_PX, HEAD_PX = 250, 8, 50


def main() -> None:
    """Put two examples of the report into one picture, one row per test image."""
    width = len(COLUMNS) * (TILE_PX + GAP_PX) - GAP_PX
    rows = [[tile(SOURCE / f"{stem}_{name}.jpg") for name in COLUMNS] for stem in EXAMPLES]
    canvas = Image.new("RGB", (width, HEAD_PX + sum(row[0].height + GAP_PX for row in rows) - GAP_PX), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    for column, title in enumerate(COLUMNS.values()):
        pen.text(
            (column * (TILE_PX + GAP_PX) + TILE_PX // 2, HEAD_PX // 2),
            title,
            "black",
            font,
            anchor="mm",
            align="center",
        )
    top = HEAD_PX
    for row in rows:
        for column, picture in enumerate(row):
            canvas.paste(picture, (column * (TILE_PX + GAP_PX), top))
        top += row[0].height + GAP_PX
    canvas.save(TARGET, quality=88)


def tile(path: Path) -> Image.Image:
    """The picture at the width of a tile."""
    picture = Image.open(path)
    return picture.resize((TILE_PX, round(picture.height * TILE_PX / picture.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
