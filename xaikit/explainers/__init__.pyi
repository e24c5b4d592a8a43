from .explanation import explain as explain, explain_all as explain_all, methods as methods
from .registry import Method as Method, find as find, method as method
from .sources import explain_source as explain_source
