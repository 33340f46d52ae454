"""Makes report-light.png and report-dark.png from a report: python docs/images/screenshot.py demo-report/report.html

Needs playwright and an installed Chromium. The pictures are reduced to 256 colours, which the page's flat areas bear.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1200, 886


def main(report: Path) -> None:
    folder = Path(__file__).parent
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(f"{report.resolve().as_uri()}#cell-1")
            page.evaluate("document.documentElement.style.scrollBehavior = 'auto'; scrollBy(0, -20)")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(
                folder / f"report-{scheme}.png", optimize=True
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
