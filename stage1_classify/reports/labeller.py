"""From the text of a report to a verdict for each finding, with the sentences that give it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxr.labels import COMPATIBLE_WITH_NO_FINDING, NO_FINDING, Language
from stage1_classify.reports.language import LanguageDetector
from stage1_classify.reports.matching import PhraseFinder, Sentence
from stage1_classify.reports.normal_reports import NormalSentences
from stage1_classify.reports.places import Place, most_exact
from stage1_classify.reports.sections import Section, SectionFinder, SectionKind, section_of
from stage1_classify.reports.tables import LanguageTable
from stage1_classify.reports.verdicts import Mention, mentions_of

UNREAD = {"indication": "indication", "comparison": "prior"}
"""Section whose findings are not counted -> the reason."""

LABEL_OF = {"present": 1, "uncertain": -1, "absent": 0}
"""Verdict -> label in CheXpert's convention, the strongest first. Ignored mentions have none."""


@dataclass(frozen=True)
class Evidence:
    """A mention and its sentence. sentence: first and last character in the report. marks: "compared", "known"."""

    mention: Mention
    sentence: tuple[int, int]
    section: SectionKind
    marks: tuple[str, ...]


@dataclass(frozen=True)
class ReportLabels:
    """What a report says. language: None if no word shows it; then nothing else is known either.

    remarks: columns of remarks, "compared" and "known" among them.
    """

    language: Language | None
    evidence: tuple[Evidence, ...]
    remarks: frozenset[str]

    def labels(self) -> dict[str, int]:
        """Finding -> 1, 0 or -1. Findings that the report does not mention are absent.

        A finding is positive if any sentence says so, else uncertain if any does, else negative. No Finding is 1 if
        the report says so or denies a finding, and affirms none, not even as possible.
        """
        verdicts: dict[str, set[str]] = {}
        for one in self.evidence:
            verdicts.setdefault(one.mention.finding, set()).add(one.mention.verdict)
        found = {
            finding: next(label for verdict, label in LABEL_OF.items() if verdict in said)
            for finding, said in verdicts.items()
            if said & LABEL_OF.keys()
        }
        said = found.pop(NO_FINDING, None)
        others = {label for finding, label in found.items() if finding not in COMPATIBLE_WITH_NO_FINDING}
        if others <= {0} and (said == 1 or (others and "compared" not in self.remarks)):
            found[NO_FINDING] = 1
        return found

    def places(self) -> dict[str, list[Place]]:
        """Finding -> its places in the report, if it is positive or uncertain."""
        places: dict[str, list[Place]] = {}
        for one in self.evidence:
            if one.mention.verdict in ("present", "uncertain"):
                places.setdefault(one.mention.finding, []).extend(one.mention.places)
        return {finding: most_exact(known) for finding, known in places.items() if known}


class ReportLabeller:
    """Labels reports in all languages. It holds no state of a report."""

    def __init__(self, tables: Mapping[Language, LanguageTable]) -> None:
        self._detect = LanguageDetector(tables)
        self._phrases = {language: PhraseFinder(table) for language, table in tables.items()}
        self._sections = {language: SectionFinder(table) for language, table in tables.items()}
        self._normal = {language: NormalSentences(table) for language, table in tables.items()}

    def __call__(self, text: str, language: Language | None = None, *, usual: Language | None = None) -> ReportLabels:
        """Label a report.

        Args:
            language: detected if not given.
            usual: of a report whose words show no language, if it says anything in this one.
        """
        language = language or self._detect(text)
        if language is not None:
            return self._labelled(text, language)
        presumed = self._labelled(text, usual) if usual else None
        if presumed and (presumed.evidence or presumed.remarks):
            return presumed
        return ReportLabels(None, (), frozenset())

    def _labelled(self, text: str, language: Language) -> ReportLabels:
        sections = self._sections[language](text)
        evidence: list[Evidence] = []
        remarks: set[str] = set()
        sentences = self._phrases[language](text)
        for sentence in sentences:
            marks = tuple(sorted(_marks(sentence, sections)))
            remarks |= {*marks, *_remarks(sentence, sections)}
            evidence += _evidence(sentence, mentions_of(sentence), sections, marks)
        for sentence in self._normal[language](text, sentences, sections):
            normal = Mention(NO_FINDING, "present", "", sentence.begin, sentence.stop, None, ())
            evidence += _evidence(sentence, [normal], sections, ())
        return ReportLabels(language, tuple(evidence), frozenset(remarks))


def _evidence(
    sentence: Sentence, mentions: Iterable[Mention], sections: Sequence[Section], marks: tuple[str, ...]
) -> Iterator[Evidence]:
    for found in mentions:
        section = section_of(sections, found.begin)
        reason = UNREAD.get(section)
        mention = found._replace(verdict="ignored", reason=reason, cue=None) if reason else found
        yield Evidence(mention, (sentence.begin, sentence.stop), section, marks)


def _remarks(sentence: Sentence, sections: Sequence[Section]) -> Iterator[str]:
    for match in sentence.matches:
        role = match.role("remark")
        if role and section_of(sections, match.begin) != "indication":
            yield role.name


def _marks(sentence: Sentence, sections: Sequence[Section]) -> Iterator[str]:
    """ "compared" and "known", if the sentence says so. "Comparison: none" does not."""
    begin = sentence.matches[0].begin if sentence.matches else sentence.begin
    section = section_of(sections, begin)
    if section == "comparison" and not any(match.role("negation") for match in sentence.matches):
        yield "compared"
    if section != "other":
        return
    has_subject = any(match.role("subject") for match in sentence.matches)
    for match in sentence.matches:
        role = match.role("mark")
        if role and not (match.role("predicate") and has_subject):  # "the heart is increased in size"
            yield role.name
        if match.role("resolved") or match.role("prior"):
            yield "compared"
