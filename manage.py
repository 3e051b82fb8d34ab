"""Django's command line for this project."""

import atexit
import gc
import os
import sys


def main() -> None:
    # What the imports make is no garbage, and looking for some in it is a third of the time of a short command. The system
    # takes back the memory at the end; a server sets limits of its own when it is up.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infery_site.settings")
    from django.core.management import execute_from_command_line

    from infery_site.env import EnvError

    try:
        execute_from_command_line(sys.argv)
    except EnvError as error:
        sys.exit(f'{error}. See README, "Settings".')


if __name__ == "__main__":
    main()
