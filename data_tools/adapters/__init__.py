"""Public formats, one a file: `CONFIG.adapt(row)` gives its record or the reason why there is none; it never raises."""

from data_tools.adapters.beavertails_v import BeavertailsVConfig
from data_tools.adapters.helpsteer import HelpSteerConfig
from data_tools.adapters.helpsteer3 import HelpSteer3Config
from data_tools.adapters.hh_rlhf import HhRlhfConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.llava_rlhf import LlavaRlhfConfig
from data_tools.adapters.mm_rlhf import MmRlhfConfig
from data_tools.adapters.mm_rlhf_ratings import MmRlhfRatingsConfig
from data_tools.adapters.nlvr import NlvrConfig
from data_tools.adapters.pku_saferlhf import PkuSafeRlhfConfig
from data_tools.adapters.rlaif_v import RlaifVConfig
from data_tools.adapters.rlhf_v import RlhfVConfig
from data_tools.adapters.spa_vl import SpaVlConfig
from data_tools.adapters.trl import TrlConfig
from data_tools.adapters.ultrafeedback import UltraFeedbackConfig
from data_tools.adapters.vlfeedback import VlFeedbackConfig

ADAPTERS = (
    BeavertailsVConfig,
    HelpSteer3Config,
    HelpSteerConfig,
    HhRlhfConfig,
    LlamaFactoryConfig,
    LlavaRlhfConfig,
    MmRlhfConfig,
    MmRlhfRatingsConfig,
    NlvrConfig,
    PkuSafeRlhfConfig,
    RlaifVConfig,
    RlhfVConfig,
    SpaVlConfig,
    TrlConfig,
    UltraFeedbackConfig,
    VlFeedbackConfig,
)
