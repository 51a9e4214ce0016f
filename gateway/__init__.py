"""cmapi-gateway: a metered-licence gateway with exact counters. See ARCHITECTURE.md for the map."""
