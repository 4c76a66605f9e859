"""Limits of a detector that follow from the facts of its run."""

from collections.abc import Sequence

from cxr.labels import slug
from stage3_detect.export.card_facts import CardFacts, box_counts, counted, named
from stage3_detect.export.card_tables import DETECTOR, NO_MAP

FEW_BOXES = 20
"""Below so many test boxes a finding's AP is little more than an anecdote."""


def limits(facts: CardFacts) -> list[str]:
    """Sentences, the gravest first."""
    words = [*_of_the_test(facts), *_of_findings(facts), *_of_the_labels(facts), *_of_the_scores(facts)]
    return words + [f"{form}: {warning}" for form, warning in facts.warnings.items()]


def _of_the_test(facts: CardFacts) -> list[str]:
    words = ["The test pictures are drawn, not taken of patients."] if facts.synthetic else []
    words.append(
        f"One test set: {named(facts.test)}. Nothing was measured on images of another source, nor by age, sex, device "
        "or view."
    )
    if facts.test.info.get("dataset") == facts.sources.labels.info.get("dataset"):
        words.append("The training images are of the same source as the test images; expect less elsewhere.")
    view = facts.stage2.settings.get("data", {}).get("view")
    if view and view != "all":
        words.append(f"Only {view} views were used.")
    if set(facts.test.images["region"]) - {"full"}:
        words.append("It looks at each half of the chest by itself, never at both together.")
    words.append(
        "One training with one seed; the intervals are about the draw of test images, not about trainings."
    )
    return words


def _of_findings(facts: CardFacts) -> list[str]:
    tested = facts.test_boxes()
    none = [finding for finding in facts.findings if not tested.get(finding)]
    few = [f"{name} ({tested[name]})" for name in facts.findings if 0 < tested.get(name, 0) < FEW_BOXES]
    words = [f"No test box, hence no score: {', '.join(none)}."] if none else []
    words += [f"Fewer than {FEW_BOXES} test boxes: {', '.join(few)}."] if few else []
    below = _below_no_map(facts)
    if below:
        words.append(
            f"AP40 not above that of a rule that looks at no map of the image: {', '.join(below)}. Boxes of these "
            "findings say little more than where the finding usually is."
        )
    return words


def _below_no_map(facts: CardFacts) -> list[str]:
    """Findings in which the detector does not exceed the prior without a map, by point estimates."""
    pairs = {
        finding: [facts.metrics.get(f"ap40/{name}/{slug(finding)}") for name in (DETECTOR, NO_MAP)]
        for finding in facts.findings
    }
    return [
        name for name, (own, prior) in pairs.items() if own is not None and prior is not None and own <= prior
    ]


def _of_the_labels(facts: CardFacts) -> list[str]:
    labels, learned = facts.settings.labels, box_counts(facts.sources.labels)
    if labels.true_boxes.only and facts.sources.true is not None:
        learned = box_counts(facts.sources.true)
    elif facts.sources.true is not None:
        true = box_counts(facts.sources.true)
        learned = {name: count + true.get(name, 0) for name, count in learned.items()}
    none = [finding for finding in facts.findings if not learned.get(finding)]
    words = [f"No box to learn from: {', '.join(none)}."] if none else []
    if labels.source == "pseudo_labels" and not labels.true_boxes.only:
        words.append(
            "Pseudo-boxes carry the classifier's habits: what it looks at is taken for where the finding is."
        )
    return words


def _of_the_scores(facts: CardFacts) -> list[str]:
    tune = facts.sources.tune
    if not facts.operating_points:
        return ["No operating points and no calibrated confidence: no true box was left to choose them on."]
    num_boxes = counted(len(tune.without_ignored().boxes), "true box")
    words = [
        f"Operating points and confidence were learned on {counted(len(tune.images), 'image')} of {named(tune)} with "
        f"{num_boxes}; where findings are rarer or more frequent than there, they are off."
    ]
    words += [
        f"Operating point {name} never shows {', '.join(never)}: on the tune split no score kept to it."
        for name, never in _never_shown(facts).items()
        if never
    ]
    return words + [
        f"Operating point {name} found no test box of {', '.join(missed)}."
        for name, missed in _all_missed(facts).items()
        if missed
    ]


def _all_missed(facts: CardFacts) -> dict[str, Sequence[str]]:
    """Findings with test boxes, none of which a point finds though it has a score for them."""
    return {
        name: [
            finding
            for finding in facts.findings
            if entry["scores"].get(finding) is not None
            and facts.metrics.get(f"sensitivity/{name}/{slug(finding)}") == 0
        ]
        for name, entry in facts.operating_points.items()
    }


def _never_shown(facts: CardFacts) -> dict[str, Sequence[str]]:
    return {
        name: [finding for finding in facts.findings if entry["scores"].get(finding) is None]
        for name, entry in facts.operating_points.items()
    }
