"""From a config to a finished data directory, in steps: read, plan, write, finish.

Each step is a pure function of files that don't change, with one output that appears whole or not at all:

    read    a piece of a source's input -> a part: records, what is decided by, rejected rows       (build.read)
    plan    the parts' indices -> splits, copies, remedies, balance, shards                         (build.plan)
    write   a shard of the plan -> a tar                                                            (build.write)
    finish  what is told of the shards -> manifest, statistics, quarantine; the output's name       (build.finish)
    audit   what was read, and the shards -> a report of both, before the output has its name       (build.audit)

So reading and writing run on any executor, and a build that was killed goes on with what is left to do. Only the plan
sees all records at once, as hashes and numbers (about 200 bytes a record); no step holds the records themselves.
"""

from data_tools.build.config import Advice, BuildReport, ConvertConfig, DataConfig
from data_tools.build.convert import convert
from data_tools.build.run import build
from data_tools.stats import stats

__all__ = ["Advice", "BuildReport", "ConvertConfig", "DataConfig", "build", "convert", "stats"]
