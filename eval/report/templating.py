"""The templates of report pages. Each page includes `style.css.j2`, so that all look alike."""

from pathlib import Path

import jinja2


def page_environment(*folders: Path) -> jinja2.Environment:
    """An environment with the templates of this package and of other folders. Text is escaped as HTML."""
    loader = jinja2.FileSystemLoader([*folders, Path(__file__).parent / "templates"])
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
