"""``python -m dyncdc.local.aws --port P``."""

from dyncdc.local.aws.child import main

main()
