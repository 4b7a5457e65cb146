"""The limits of a reward server where none are named, for its settings and for the options of `serve-reward`, which are
there before any heavier library is loaded."""

from data_tools.image_limits import STANDARD

MAX_BATCH = 32
MAX_BATCH_TOKENS = 16384
MAX_WAIT_MS = 5.0
MAX_QUEUE = 256
# no limit on an image is lower than that of data sets: the largest file of one, as base64, and its pixels
MAX_REQUEST_MB = 48.0
MAX_PIXELS = STANDARD.max_pixels
MAX_REQUEST_PIXELS = 256_000_000
MAX_IMAGES = 8
MAX_TOKENS = 4096
