"""stub"""

from bedplate.model.errors import BedplateError


class Unresolvable(BedplateError):
    pass


def explain(problems, universe, request):
    return Unresolvable(
        "; ".join(str(p) for p in problems), details=[str(r.info()) for p in problems for r in p.findallproblemrules()]
    )
