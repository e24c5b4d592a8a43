from . import images as images, paths as paths, schema as schema, store as store
from .checks import check_choices as check_choices, check_whole as check_whole
from .images import read_image as read_image
from .models import bundled as bundled
from .paths import (
    data_folder as data_folder,
    notebooks_folder as notebooks_folder,
    run_folder as run_folder,
    runs_folder as runs_folder,
)
from .schema import SCHEMA as SCHEMA
from .store import (
    SchemaError as SchemaError,
    annotate as annotate,
    code_digest as code_digest,
    content_digest as content_digest,
    inputs_digest as inputs_digest,
    open_store as open_store,
    provenance as provenance,
    read as read,
    save_store as save_store,
    validate as validate,
    write as write,
)
