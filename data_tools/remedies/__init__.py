"""What is done about what the audits find: each a filter of the build, one a file; `REMEDIES` lists them."""

from data_tools.remedies.blind import EvenOutBlind
from data_tools.remedies.contamination import DropContaminated
from data_tools.remedies.flips import OnlyFlipPairs
from data_tools.remedies.leaks import DropLeaks
from data_tools.remedies.lengths import MatchLengths
from data_tools.remedies.near import DropNearCopies
from data_tools.remedies.pairs import PairFlips

REMEDIES = (
    DropContaminated,
    DropLeaks,
    DropNearCopies,
    EvenOutBlind,
    MatchLengths,
    OnlyFlipPairs,
    PairFlips,
)
