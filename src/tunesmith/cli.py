"""temporary"""

import sys

from tunesmith.server.serve import serve
from tunesmith.server.settings import load_settings


def main():
    a = sys.argv[1:]
    opts = {a[i][2:]: a[i + 1] for i in range(1, len(a), 2)}
    serve(load_settings(**opts), lambda u: print(u, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
