"""The nouns that travel through every layer. Values only: no I/O, no asyncio, no third party."""
