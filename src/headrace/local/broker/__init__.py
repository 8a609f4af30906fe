"""A small broker that speaks Kafka's protocol, for a laptop and for tests: never for production.

One process, no replication, no transactions, 127.0.0.1 only. docs/decisions/0013-an-own-broker-for-laptops.md says why.
"""
