"""Values unreadable in the store: transformers between registry and store, and their keys."""

from peavine.apiserver.encryption.config import ConfigError, load_encryption
from peavine.apiserver.encryption.store import EncryptedStore

__all__ = ["ConfigError", "EncryptedStore", "load_encryption"]
