"""``vla-mbpo calibrate board``: the board, to print."""

import argparse
from pathlib import Path

from vla_mbpo.calibrate.options import add_board, board_of
from vla_mbpo.core.errors import require

INCH = 0.0254  # m
MARGIN = 0.008  # m of white around it
FORMATS = (".pdf", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, default=Path("board.pdf"), help="PDF or PNG (default %(default)s)")
    parser.add_argument("--dpi", type=int, default=600, help="resolution (default %(default)s)")
    add_board(parser)


def run(args: argparse.Namespace) -> int:
    """Write the picture, in its true size."""
    from PIL import Image

    board = board_of(args)
    require(args.out.suffix.lower() in FORMATS, "--out", str(args.out), f"a file that ends in {' or '.join(FORMATS)}")
    require(72 <= args.dpi <= 2400, "--dpi", args.dpi, "72 to 2400")
    pixels = round(board.square / INCH * args.dpi)
    require(pixels >= 40, "--dpi", args.dpi, f"at least {round(40 * INCH / board.square)} for squares of this size")
    # Whole pixels per square, and a resolution that makes them the right size.
    dpi = pixels * INCH / board.square
    image, edge = Image.fromarray(board.image(pixels)), round(MARGIN / board.square * pixels)
    page = Image.new("L", (image.width + 2 * edge, image.height + 2 * edge), 255)
    page.paste(image, (edge, edge))
    try:
        page.save(args.out, resolution=dpi, dpi=(dpi, dpi))
    except OSError as error:
        require(False, "--out", str(args.out), f"a file that can be written: {error.strerror}")
    width, height = (1e3 * extent for extent in board.extent)
    print(f"{args.out}: {width:.0f} x {height:.0f} mm. Print it at 100 %, glue it to a flat plate, measure a square.")
    return 0
