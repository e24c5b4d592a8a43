from .layers import Layer as Layer
from .loading import load_clip as load_clip
from .model import Clip as Clip
from .pairs import Pairs as Pairs
from .score import content_of as content_of, record_score as record_score
from .tape import Tape as Tape, record as record
from .towers import Tower as Tower, tower as tower
