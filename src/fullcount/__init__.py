"""fullcount: contextual embeddings of baseball events, and the projections made from them."""

from fullcount.errors import FullcountError

__all__ = ["FullcountError", "__version__"]
__version__ = "0.1.0"
