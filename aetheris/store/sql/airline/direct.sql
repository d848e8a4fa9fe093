-- Flights of a route that can be booked on a day, in the data set's order.
SELECT f.shown::text AS flight, d.shown::text AS day
FROM airline.flights f
JOIN airline.flight_days d USING (dataset, flight_number)
WHERE f.dataset = %(dataset)s AND f.origin = %(origin)s AND f.destination = %(destination)s
  AND d.day = %(day)s AND d.status = 'available'
ORDER BY f.position
