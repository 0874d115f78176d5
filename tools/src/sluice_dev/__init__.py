"""Throwaway parts for tests, benches and demonstrations: PostgreSQL servers, OPA, the whole stack."""
