from . import worlds as worlds
from .bad_samples import save_bad_samples as save_bad_samples
from .captions import VOCABULARY as VOCABULARY, name_objects as name_objects
from .descriptions import draw_descriptions as draw_descriptions
from .inputs import first_good as first_good, open_inputs as open_inputs
from .layouts import LAYOUTS as LAYOUTS, open_source as open_source
from .parts import compute_parts as compute_parts, open_parts as open_parts
from .scenes import PAIRS as PAIRS, draw_mark as draw_mark, draw_pairs as draw_pairs, draw_scenes as draw_scenes
from .source import Source as Source
from .suites import SUITES as SUITES, draw_suite as draw_suite
from .worlds.shapes import (
    COLOURS as COLOURS,
    IMAGE_SIZE as IMAGE_SIZE,
    MARK_SIZE as MARK_SIZE,
    SHAPES as SHAPES,
    SIZES as SIZES,
)
