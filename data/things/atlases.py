"""``python atlases.py FOLDER``: draw the sprites of ``things.csv`` again, one picture a set of drawings.

FOLDER holds the npm packages ``@iconify-json/NAME`` of ``SETS`` as ``npm pack`` fetches them. Needs resvg-py, which xaikit
itself doesn't: the sprites are shipped.
"""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import resvg_py
from PIL import Image

SETS = {
    "noto": "noto-1.2.9",
    "twemoji": "twemoji-1.2.5",
    "fluent": "fluent-emoji-1.2.7",
    "flat": "fluent-emoji-flat-1.2.6",
}
SPRITE = 128  # pixels
COLUMNS = 12
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{} {} {} {}">{}</svg>'
)


def sprite(icons: dict, name: str) -> Image.Image:
    """One drawing, cut to what is seen of it and put into the middle of a square."""
    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"][name]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = SVG.format(icon.get("left", 0), icon.get("top", 0), width, height, icon["body"])
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=4 * SPRITE, height=4 * SPRITE))
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    seen = drawn.crop(drawn.getchannel("A").point(lambda alpha: 255 * (alpha > 40)).getbbox())
    square = Image.new("RGBA", (max(seen.size),) * 2)
    square.paste(seen, tuple((square.width - side) // 2 for side in seen.size))
    return square.resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)


def atlas(package: Path, names: list[str]) -> Image.Image:
    """All drawings of a set, in rows of ``COLUMNS``."""
    with tarfile.open(package) as files:
        icons = json.load(files.extractfile("package/icons.json"))
    sheet = Image.new("RGBA", (COLUMNS * SPRITE, -(-len(names) // COLUMNS) * SPRITE))
    for place, name in enumerate(names):
        sheet.paste(sprite(icons, name), (place % COLUMNS * SPRITE, place // COLUMNS * SPRITE))
    return sheet


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    here = Path(__file__).parent
    with open(here / "things.csv", newline="") as table:
        names = [row["icon"] for row in csv.DictReader(table)]
    for style, package in SETS.items():
        atlas(Path(sys.argv[1]) / f"iconify-json-{package}.tgz", names).save(here / f"{style}.png", optimize=True)
