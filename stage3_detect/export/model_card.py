"""The model card of a finished run: what the detector is, its training data, its results and its limits.

After Mitchell et al. 2019, Model cards for model reporting (arXiv:1810.03993). All sentences are in
`templates/model_card.md.j2`; every figure comes from the metrics of the run.
"""

import re
from importlib.metadata import version
from pathlib import Path

import jinja2

from cxr.runs.provenance import code_state, library_versions, sha256_of
from cxr.runs.run_folder import atomic_write_text
from cxr.wording import counted
from eval.leaderboard.names import display_name
from eval.report.text_tables import markdown
from stage3_detect.export.card_facts import CardFacts, named
from stage3_detect.export.card_tables import comparison_table, file_table, finding_table, point_table
from stage3_detect.serving.model.manifest import MODEL_CARD

TEMPLATE = "model_card.md.j2"


def write_model_card(run_dir: Path, facts: CardFacts) -> Path:
    """Write MODEL_CARD.md into the run folder, atomically; returns its path. The card contains no absolute path."""
    path = run_dir / MODEL_CARD
    atomic_write_text(path, card_text(facts))
    return path


def card_text(facts: CardFacts) -> str:
    """The whole card in Markdown."""
    sources, settings = facts.sources, facts.settings
    files = {f"`{path.name}`": path for path in (facts.weights, *facts.files.values())}
    files["`manifest.json` of stage 2"] = facts.stage2.dir / "manifest.json"
    text = _template().render(
        card=facts,
        settings=settings,
        size=settings.data.image_px,
        true_boxes=settings.labels.true_boxes,
        labels=sources.labels,
        given=sources.true,
        corrected=sources.corrections,
        tune=sources.tune,
        folder=facts.folder,
        tables=[comparison_table(facts), finding_table(facts), point_table(facts)],
        file_table=file_table(facts),
        format="onnx" if "onnx" in facts.files else "pytorch",
        raybox=version("raybox"),
        code=code_state(),
        libraries=library_versions(),
        hashes={name: sha256_of(path) for name, path in files.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {
        "counted": counted,
        "named": named,
        "display_name": display_name,
        "markdown": lambda table: markdown(table).replace("## ", "### ", 1),
        "cell": lambda text: text.replace("|", "/"),
    }
    return environment.get_template(TEMPLATE)
