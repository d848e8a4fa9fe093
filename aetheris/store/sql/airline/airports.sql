SELECT (desk -> 'airports')::text AS shown FROM airline.datasets WHERE dataset = %(dataset)s
