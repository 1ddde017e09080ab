"""Bounds of the first set-up of a box: lifetimes of what it signs, and sizes of what it reads."""

# An authority outlives the box; when it ends, every client must be given a new one.
setup_authority_days = 3650
# A server's certificate is renewed on the box, without touching a client. 825 is what Apple's clients accept at most.
setup_server_days = 825
# A client's certificate cannot be revoked on the box, so it ends in a year and a month.
setup_client_days = 397
# Certificates begin so much before they are made: clients' clocks may be behind.
setup_backdate_hours = 24
# The log and `appliance doctor` warn so long before one ends, and `appliance setup renew --due` renews then: an operator at
# a plant needs weeks to get a new one.
certificate_warn_days = 30
# The earliest that a clock may say when something is signed: before it, the clock was never set (2026-01-01, seconds).
setup_clock_earliest_s = 1_767_225_600
# X.520's bound of a common name (RFC 5280, appendix A.1: ub-common-name).
certificate_common_name_chars_max = 64
# Names and addresses in the server's certificate, ours and further ones.
setup_names_max = 64
# A client's name is a folder's name and the name under which it is served in turn.
setup_client_name_chars_max = 64
setup_clients_max = 64
# A chain with its roots has some kB, a bundle of all public authorities 250.
certificate_file_bytes_max = 1024 * 1024
# A name of a host on the network (RFC 1035, 2.3.4).
setup_host_chars_max = 253
