"""The findings of a data set under the names of the user's label file. The one place where data and names meet."""

from dataclasses import replace

import pandas as pd

from cxr.datasets import AnyData
from cxr.datasets.several import SeveralData
from cxr.datasets.text_cells import merge_columns
from cxr.labels import FINDINGS, Terminology, ancestors
from cxr.tables import BOX_COLUMNS, Dataset

LEFT_OUT = "label columns of findings that the label file does not have, left out"


def read_data(settings: AnyData, terms: Terminology) -> Dataset:
    """Read a data set, or several as one, with the findings of `terms`.

    Raises:
        UserError: what reading raises, or a name that is probably misspelt.
    """
    if isinstance(settings, SeveralData):
        # before they are combined: the names that another set does not ask must not meet in one column
        return settings.combined({name: with_own_names(own, terms) for name, own in settings.read_each().items()})
    return with_own_names(settings.read(), terms)


def with_own_names(data: Dataset, terms: Terminology) -> Dataset:
    """The data set with the findings of `terms`, in their order.

    Columns of the same finding become one, see `merge_columns`; so do equal boxes of one reader. Columns and boxes of
    findings that `terms` leaves out are dropped and counted. An own parent that the data set does not label is positive
    where a child is, uncertain where one is, else not mentioned; its boxes are those of its children.
    """
    marked = data.boxes["finding"]
    names = terms.names_in([*data.findings, *marked.unique()], source=data.name)
    kept = [name for name in data.findings if name in names]
    labels = merge_columns(data.labels[kept], names, order=terms.findings)
    boxes = data.boxes.assign(finding=marked.map(names))[marked.isin(list(names))]
    labels, boxes = _with_parents(labels, boxes, terms)
    boxes = boxes.drop_duplicates(BOX_COLUMNS).reset_index(drop=True)
    num_left_out = len(data.findings) - len(kept)
    counts = {**data.counts, **({LEFT_OUT: num_left_out} if num_left_out else {})}
    return replace(data, labels=labels, boxes=boxes, counts=counts)


def _with_parents(labels: pd.DataFrame, boxes: pd.DataFrame, terms: Terminology) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = {str(name): labels[name] for name in labels.columns}
    tables = [boxes]
    for parent in terms.findings:
        children = [name for name in labels.columns if parent in ancestors(name, terms.parents)]
        if children and parent not in columns and parent not in FINDINGS:
            said = labels[children]
            uncertain = pd.Series(-1.0, labels.index).where((said == -1).any(axis=1))
            columns[parent] = uncertain.mask((said == 1).any(axis=1), 1.0)
            tables.append(boxes[boxes["finding"].isin(children)].assign(finding=parent))
    order = [*terms.findings, *columns]
    named = pd.DataFrame({name: columns[name] for name in dict.fromkeys(order) if name in columns}, labels.index)
    return named, pd.concat(tables, ignore_index=True)
