"""`python -m mmrlhf`."""

from mmrlhf.cli import main

main()
