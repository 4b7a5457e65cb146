"""What a data set teaches without the image, and what is amiss with it. One audit a file; `AUDITS` lists them."""

from data_tools.audits.base import Audit

AUDITS: tuple[type[Audit], ...] = ()
