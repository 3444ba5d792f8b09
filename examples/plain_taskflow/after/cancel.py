"""python cancel.py UUID REASON: cancels a download, by the uuid of its job or of its flow."""

import sys

from places import REQUESTS

from ebbtide.jobs.plain import open_requests

with open_requests(REQUESTS) as requests:
    print(requests.request(sys.argv[1], reason=sys.argv[2]).status)
