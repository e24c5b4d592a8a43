from . import worlds as worlds
from .captions import name_objects as name_objects, vocabulary as vocabulary, world_of_model as world_of_model
from .interventions import (
    moved as moved,
    newcomers as newcomers,
    replaced as replaced,
    unmarked as unmarked,
    without as without,
)
from .layouts import (
    LAYOUTS as LAYOUTS,
    known_layouts as known_layouts,
    open_inputs as open_inputs,
    open_source as open_source,
)
from .parts import compute_parts as compute_parts, open_parts as open_parts, save_bad_samples as save_bad_samples
from .scenes import (
    PAIRS as PAIRS,
    SUITES as SUITES,
    draw_descriptions as draw_descriptions,
    draw_mark as draw_mark,
    draw_pairs as draw_pairs,
    draw_scenes as draw_scenes,
    draw_suite as draw_suite,
)
from .source import Source as Source, first_good as first_good, joined as joined
from .tables import layout as layout
from .worlds import WORLDS as WORLDS, find_world as find_world
from .worlds.layout import COLOURS as COLOURS, MARK_SIZE as MARK_SIZE
from .worlds.shapes import IMAGE_SIZE as IMAGE_SIZE, SHAPES as SHAPES, SIZES as SIZES
