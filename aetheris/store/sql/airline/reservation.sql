SELECT shown::text AS shown FROM airline.reservations
WHERE dataset = %(dataset)s AND reservation_id = %(reservation_id)s AND world IN ('', %(world)s)
ORDER BY world DESC
LIMIT 1
