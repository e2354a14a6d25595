"""`make revoke-key`: switch off an API key of a stage, with the rights of whoever runs it.

The key comes on standard input (asked for, unseen, on a terminal) or in the environment as KEY: never as an argument,
which every process of the machine could read. It is not printed.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from infra.stage import NoPlace, add_options, point_at


def main() -> int:
    parser = argparse.ArgumentParser(description="Revoke an API key, read from standard input or KEY.")
    add_options(parser)
    options = parser.parse_args()
    from botocore.exceptions import BotoCoreError, ClientError

    from chalicelib.accounts.api_keys import revoke_api_key

    try:
        point_at(options)
        plain_key = _read_key()
        if not plain_key:
            print("no key was given: type it, pipe it in, or put it into KEY", file=sys.stderr)
            return 1
        revoke_api_key(plain_key)
    except NoPlace as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            error = f"stage {options.stage} has no such key"
        print(f"no key was revoked: {error}", file=sys.stderr)
        return 1
    print("revoked; within 30 seconds nobody gets in with it")
    return 0


def _read_key() -> str:
    if "KEY" in os.environ:
        return os.environ["KEY"].strip()
    return (getpass.getpass("API key to revoke: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()


if __name__ == "__main__":
    sys.exit(main())
