"""Public formats, one a file: `CONFIG.adapt(row)` gives its record or the reason why there is none; it never raises."""

from data_tools.adapters.align_anything import AlignAnythingConfig
from data_tools.adapters.arena import ArenaConfig
from data_tools.adapters.argilla import ArgillaConfig
from data_tools.adapters.beavertails_v import BeavertailsVConfig
from data_tools.adapters.columns import ColumnsConfig
from data_tools.adapters.helpsteer import HelpSteerConfig
from data_tools.adapters.helpsteer2_preference import HelpSteer2PreferenceConfig
from data_tools.adapters.helpsteer3 import HelpSteer3Config
from data_tools.adapters.hh_rlhf import HhRlhfConfig
from data_tools.adapters.label_studio import LabelStudioConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.llava_critic import LlavaCriticConfig
from data_tools.adapters.llava_rlhf import LlavaRlhfConfig
from data_tools.adapters.messages import MessagesConfig
from data_tools.adapters.mm_rlhf import MmRlhfConfig
from data_tools.adapters.mm_rlhf_ratings import MmRlhfRatingsConfig
from data_tools.adapters.mmpr import MmprConfig
from data_tools.adapters.multipref import MultiPrefConfig
from data_tools.adapters.nectar import NectarConfig
from data_tools.adapters.nlvr import NlvrConfig
from data_tools.adapters.pku_saferlhf import PkuSafeRlhfConfig
from data_tools.adapters.povid import PovidConfig
from data_tools.adapters.rl_prompts import RlPromptsConfig
from data_tools.adapters.rlaif_v import RlaifVConfig
from data_tools.adapters.rlhf_v import RlhfVConfig
from data_tools.adapters.sharegpt import ShareGptConfig
from data_tools.adapters.skywork_reward import SkyworkRewardConfig
from data_tools.adapters.spa_vl import SpaVlConfig
from data_tools.adapters.trl import TrlConfig
from data_tools.adapters.tulu3 import Tulu3Config
from data_tools.adapters.ultrafeedback import UltraFeedbackConfig
from data_tools.adapters.vlfeedback import VlFeedbackConfig

ADAPTERS = (
    AlignAnythingConfig,
    ArenaConfig,
    ArgillaConfig,
    BeavertailsVConfig,
    ColumnsConfig,
    HelpSteer2PreferenceConfig,
    HelpSteer3Config,
    HelpSteerConfig,
    HhRlhfConfig,
    LabelStudioConfig,
    LlamaFactoryConfig,
    LlavaCriticConfig,
    LlavaRlhfConfig,
    MessagesConfig,
    MmprConfig,
    MmRlhfConfig,
    MmRlhfRatingsConfig,
    MultiPrefConfig,
    NectarConfig,
    NlvrConfig,
    PkuSafeRlhfConfig,
    PovidConfig,
    RlaifVConfig,
    RlhfVConfig,
    RlPromptsConfig,
    ShareGptConfig,
    SkyworkRewardConfig,
    SpaVlConfig,
    TrlConfig,
    Tulu3Config,
    UltraFeedbackConfig,
    VlFeedbackConfig,
)
