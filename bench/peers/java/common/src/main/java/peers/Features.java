package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The features of bench/peers/flights.toml but for the window's, which has state. */
public final class Features {
  public static final int COUNT = 16;
  /** Where the mean of the window goes. */
  public static final int CARRIER_DELAY = 4;

  private static final long DAY_MS = 86_400_000;
  private static final long WEATHER_MAX_AGE_MS = 21_600_000;
  private static final float[] DEFAULT_WEATHER = {55, 10, 0, 10};
  private static final float[] DEFAULT_PLANE = {2001, 149};
  private static final float UNSEEN = -1;
  private static final Map<String, Float> CARRIERS = codes(List.of(
      "9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"));
  private static final Map<String, Float> ORIGINS = codes(List.of("EWR", "JFK", "LGA"));

  /** The hours of an origin in order of time, and what is known from then on. */
  private static final class Weather {
    long[] from = new long[0];
    float[][] values = new float[0][];

    /** What holds at a time, not older than six hours. */
    float[] at(long time) {
      int place = Arrays.binarySearch(from, time);
      if (place < 0) place = -place - 2;
      return place < 0 || time - from[place] > WEATHER_MAX_AGE_MS ? DEFAULT_WEATHER : values[place];
    }
  }

  private final Map<String, Weather> weather = new HashMap<>();
  private final Map<String, float[]> planes = new HashMap<>();
  private final Map<String, Float> destinations;
  private long day = Long.MIN_VALUE;
  private int year;

  /**
   * @param tables the folder of weather.tsv and planes.tsv, as bench/peers/make_input.py writes them
   * @param destinations the file of the categories of dest_code, one a line
   */
  public Features(Path tables, Path destinations) {
    try {
      Map<String, List<String[]>> byOrigin = new HashMap<>();
      for (String line : Files.readAllLines(tables.resolve("weather.tsv"))) {
        String[] cells = line.split("\t", -1);
        byOrigin.computeIfAbsent(cells[0], origin -> new java.util.ArrayList<>()).add(cells);
      }
      byOrigin.forEach((origin, rows) -> {
        Weather hours = new Weather();
        hours.from = rows.stream().mapToLong(cells -> Long.parseLong(cells[1])).toArray();
        hours.values = rows.stream().map(cells -> numbers(cells, 2, DEFAULT_WEATHER)).toArray(float[][]::new);
        weather.put(origin, hours);
      });
      for (String line : Files.readAllLines(tables.resolve("planes.tsv"))) {
        String[] cells = line.split("\t", -1);
        planes.put(cells[0], numbers(cells, 1, DEFAULT_PLANE));
      }
      this.destinations = codes(Files.readAllLines(destinations));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** Fills the features of a row, in the order of the model. */
  public void fill(Row row) {
    float[] x = row.features;
    float[] sky = weather.containsKey(row.origin) ? weather.get(row.origin).at(row.time) : DEFAULT_WEATHER;
    float[] plane = planes.getOrDefault(row.key, DEFAULT_PLANE);
    x[0] = (float) row.delay;
    x[1] = (float) row.distance;
    x[2] = row.hour * 60 + row.minute;
    // 1970 began on a Thursday; Sunday is 0.
    x[3] = Math.floorMod(Math.floorDiv(row.time, DAY_MS) + 4, 7);
    x[5] = 20;
    x[6] = 5;
    System.arraycopy(sky, 0, x, 7, sky.length);
    x[11] = yearOf(row.time) - plane[0];
    x[12] = plane[1];
    x[13] = CARRIERS.getOrDefault(row.carrier, UNSEEN);
    x[14] = ORIGINS.getOrDefault(row.origin, UNSEEN);
    x[15] = destinations.getOrDefault(row.dest, UNSEEN);
  }

  private int yearOf(long time) {
    long its = Math.floorDiv(time, DAY_MS);
    if (its != day) {
      day = its;
      year = LocalDate.ofEpochDay(its).getYear();
    }
    return year;
  }

  private static float[] numbers(String[] cells, int start, float[] defaults) {
    float[] values = defaults.clone();
    for (int i = 0; i < values.length; i++) {
      if (!cells[start + i].isEmpty()) values[i] = (float) Double.parseDouble(cells[start + i]);
    }
    return values;
  }

  private static Map<String, Float> codes(List<String> categories) {
    Map<String, Float> codes = new HashMap<>();
    for (String category : categories) codes.put(category, (float) codes.size());
    return codes;
  }
}
