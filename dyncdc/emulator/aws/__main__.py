"""``python -m dyncdc.emulator.aws --port P``."""

from dyncdc.emulator.aws.server.process import main

main()
