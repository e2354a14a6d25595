"""`make api-key`: issue an API key of a stage, with the rights of whoever runs it. The key is printed once."""

from __future__ import annotations

import argparse
import sys
import time

from infra.stage import NoPlace, add_options, point_at


def main() -> int:
    parser = argparse.ArgumentParser(description="Issue an API key.")
    add_options(parser)
    parser.add_argument("--scope", choices=("operator", "shop"), required=True)
    parser.add_argument("--shop", default="", help="the shop a shop key belongs to")
    options = parser.parse_args()
    from botocore.exceptions import BotoCoreError, ClientError

    from chalicelib.accounts.api_keys import issue_api_key

    try:
        point_at(options)
        print(issue_api_key(options.scope, int(time.time()), shop_id=options.shop or None, label="make api-key"))
    except (NoPlace, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"no key was issued: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
