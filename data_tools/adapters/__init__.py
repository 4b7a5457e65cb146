"""Public formats, one a file: `adapt(row, config)` gives a record or the reason why there is none, and never
raises.
"""

from data_tools.adapters.hh_rlhf import HhRlhfConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.nlvr import NlvrConfig
from data_tools.adapters.trl import TrlConfig

ADAPTERS = (HhRlhfConfig, LlamaFactoryConfig, NlvrConfig, TrlConfig)
