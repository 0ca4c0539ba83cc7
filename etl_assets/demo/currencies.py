"""Which currency a nation's customers order in: the demo's only table of currencies.

ISO 4217 codes. A nation whose own currency the European Central Bank publishes a reference rate for orders in
that currency; every other nation orders in US dollars, as does a customer without nation. The rouble's rates
stop on 2022-03-01, when the bank suspended them: RUB orders after that day have no published rate.
"""

FALLBACK_CURRENCY = "USD"
"""Currency of a customer whose nation is unknown."""

NATION_CURRENCIES: dict[str, str] = {
    "ALGERIA": "USD",
    "ARGENTINA": "USD",
    "BRAZIL": "BRL",
    "CANADA": "CAD",
    "CHINA": "CNY",
    "EGYPT": "USD",
    "ETHIOPIA": "USD",
    "FRANCE": "EUR",
    "GERMANY": "EUR",
    "INDIA": "INR",
    "INDONESIA": "IDR",
    "IRAN": "USD",
    "IRAQ": "USD",
    "JAPAN": "JPY",
    "JORDAN": "USD",
    "KENYA": "USD",
    "MOROCCO": "USD",
    "MOZAMBIQUE": "USD",
    "PERU": "USD",
    "ROMANIA": "RON",
    "RUSSIA": "RUB",
    "SAUDI ARABIA": "USD",
    "UNITED KINGDOM": "GBP",
    "UNITED STATES": "USD",
    "VIETNAM": "USD",
}
"""TPC-H's 25 nations, by name."""
