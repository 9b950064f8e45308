//! Mistakes about pages of other origins.

use super::Case;

/// Mistakes in `gateway.toml`.
pub(in super::super) const CORS_CASES: &[Case] = &[
    Case("[cors]\n", "[cors]", "`origins` is missing in `[cors]`"),
    Case("[cors]\norigins = []\n", "[]", "`origins` is empty"),
    Case(
        "[cors]\norigins = \"https://a.example.com\"\n",
        "\"https",
        "`origins` cannot be a text",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com/app\"]\n",
        "\"https://a.example.com/app\"",
        "an origin has no path",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com/\"]\n",
        "\"https://a.example.com/\"",
        "an origin does not end with a slash",
    ),
    Case(
        "[cors]\norigins = [\"a.example.com\"]\n",
        "\"a.example.com\"",
        "an origin begins with its scheme",
    ),
    Case(
        "[cors]\norigins = [\"https://A.example.com\"]\n",
        "\"https://A.example.com\"",
        "browsers send origins in lower case",
    ),
    Case("[cors]\norigins = [\"null\"]\n", "\"null\"", "`null` is no origin of yours"),
    Case(
        "[cors]\norigins = [\"https://*.com\"]\n",
        "\"https://*.com\"",
        "`*` stands for one whole label in front of a domain",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\", \"https://a.example.com:443\"]\n",
        "\"https://a.example.com:443\"",
        "is listed twice",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\", \"*\"]\n",
        "\"*\"",
        "`*` means every origin, so it must be the only one",
    ),
    Case(
        "[cors]\norigins = [\"*\"]\ncredentials = true\n",
        "\"*\"",
        "any page on the web could use the cookies",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nheaders = [\"X-A\"]\n",
        "headers",
        "there is no key `headers` in `[cors]`",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nrequest_headers = [\"*\"]\n",
        "\"*\"",
        "each header must be named: `*` is not accepted",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nrequest_headers = [\"X A\"]\n",
        "\"X A\"",
        "is not a header name",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nrequest_headers = [\"cookie\"]\n",
        "\"cookie\"",
        "no page can send `cookie`",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nrequest_headers = [\"Sec-Fetch-Site\"]\n",
        "\"Sec-Fetch-Site\"",
        "no page can send `Sec-Fetch-Site`",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nrequest_headers = [\"X-Tenant-Id\"]\n",
        "\"X-Tenant-Id\"",
        "is an identity header: the gateway removes it from requests",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nresponse_headers = [\"Set-Cookie\"]\n",
        "\"Set-Cookie\"",
        "no page can read `Set-Cookie`",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nresponse_headers = [\"*\"]\n",
        "\"*\"",
        "each header must be named: `*` is not accepted",
    ),
    Case(
        "[cors]\norigins = [\"https://a.example.com\"]\nmax_age = \"25h\"\n",
        "\"25h\"",
        "`max_age` must be 0s to 1d",
    ),
    Case("cors = \"none\"\n", "\"none\"", "`cors` cannot be a text"),
];

/// Mistakes in the file of a service.
pub(in super::super) const ROUTE_CORS_CASES: &[Case] = &[
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\ncors = \"off\"\n",
        "\"off\"",
        "`cors` cannot be `off`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\ncors = true\n",
        "true",
        "`cors` cannot be `true` or `false`",
    ),
    Case(
        "[[routes]]\npath = \"/a\"\naccess = \"public\"\ncors = { origins = [\"https://a.example.com/\"] }\n",
        "\"https://a.example.com/\"",
        "an origin does not end with a slash",
    ),
];
