"""Public formats, one a file: `CONFIG.adapt(row)` gives its record or the reason why there is none; it never raises."""

from data_tools.adapters.hh_rlhf import HhRlhfConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.nlvr import NlvrConfig
from data_tools.adapters.shards import ShardsConfig
from data_tools.adapters.trl import TrlConfig

ADAPTERS = (HhRlhfConfig, LlamaFactoryConfig, NlvrConfig, ShardsConfig, TrlConfig)
