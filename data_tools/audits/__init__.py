"""What a data set teaches without the image, and what is amiss with it. `AUDITS` lists the audits in their order."""

from data_tools.audits.agreement import Agreement
from data_tools.audits.base import Audit
from data_tools.audits.blind import Blind
from data_tools.audits.contamination import Contamination
from data_tools.audits.copies import Copies
from data_tools.audits.labels import LabelBalance
from data_tools.audits.names import Answer, Model
from data_tools.audits.shallow import Length, Position

AUDITS: tuple[type[Audit], ...] = (
    Blind,
    Length,
    Position,
    Answer,
    Model,
    LabelBalance,
    Agreement,
    Copies,
    Contamination,
)
